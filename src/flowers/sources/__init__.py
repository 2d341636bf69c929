"""Where photographs come from: files, folders, tables of labels, archives (see `conf/data`), rendering from a seed."""
