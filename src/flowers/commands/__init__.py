"""The commands, one file each: parse, call the rooms, print. A new command is a new file; no room imports one."""
