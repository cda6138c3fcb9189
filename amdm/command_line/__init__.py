"""The command `amdm`, and what the library's commands share."""
