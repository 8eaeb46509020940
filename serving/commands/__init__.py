"""The commands behind `nbo`: one file each, imported when it runs."""
