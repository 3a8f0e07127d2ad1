"""One module per table. results/ holds the records behind every published number."""
