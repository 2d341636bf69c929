"""Numbers to figures and pages, the leaderboard among them. The only room that imports matplotlib and jinja2."""
