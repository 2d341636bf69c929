"""The commands, one file each: parse, call the rooms, print. Nobody imports a command."""
