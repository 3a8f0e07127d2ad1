"""What using the library looks like, one file each, run as tests."""
