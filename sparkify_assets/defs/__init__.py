"""What `dg scaffold defs` adds: everything in this folder is loaded."""
