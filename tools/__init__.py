"""What maintainers run; each file is a command or a part of one."""
