"""The recipe of vilex-nano: from emoji drawings to the model inside the package."""
