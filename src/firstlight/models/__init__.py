"""Models: trained from the catalog, judged, registered, served, and used and improved in the loop."""
