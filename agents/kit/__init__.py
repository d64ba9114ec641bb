"""Makes start-up kits: for each party a folder with settings, login and next steps."""
