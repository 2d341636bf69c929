"""Numbers to figures and pages. The only room that imports matplotlib and jinja2."""
