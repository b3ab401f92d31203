"""Programs that run in other people's environments are not for this one to import."""

collect_ignore = ["epics_base_ioc.py", "madsci_hob.py", "queueserver_hob.py"]
