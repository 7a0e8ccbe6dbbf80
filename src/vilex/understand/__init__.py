"""ViLex features inside a vision-language model: what it sees, how it is asked, trained and scored."""
