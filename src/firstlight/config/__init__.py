"""The border where a file becomes typed values: campaign files, and the settings of a data directory."""

from ._campaign import check_campaign, dump_campaign, load_campaign, read_document
from ._people import read_budget, read_correction, read_point, read_region
from ._problems import BadCampaign, Checker, Known
from ._settings import BadSettings, Settings, add_facility, add_source, check_facility_name, load_settings
from ._template import TEMPLATE, write_template

__all__ = [
    "TEMPLATE",
    "BadCampaign",
    "BadSettings",
    "Checker",
    "Known",
    "Settings",
    "add_facility",
    "add_source",
    "check_campaign",
    "check_facility_name",
    "dump_campaign",
    "load_campaign",
    "load_settings",
    "read_budget",
    "read_correction",
    "read_document",
    "read_point",
    "read_region",
    "write_template",
]
