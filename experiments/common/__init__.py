"""What experiments share: the command line, records, published numbers, tables, pictures."""
