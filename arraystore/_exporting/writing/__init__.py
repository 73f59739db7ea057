"""The writers of the forms of exports, and the columns of Arrow that two of them share."""
