"""The paper's tasks: how each published set is read, asked, trained and scored."""
