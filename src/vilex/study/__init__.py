"""The human study: people say which of two methods' pictures is closer to a source."""
