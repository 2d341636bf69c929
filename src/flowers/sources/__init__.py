"""Where photographs come from: decoding a file, archives (`conf/data/NAME.yaml` names one), rendering from a seed."""
