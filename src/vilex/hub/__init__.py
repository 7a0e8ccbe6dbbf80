"""Model folders and hub ids: resolve, check, hash, load, describe, export and publish."""
