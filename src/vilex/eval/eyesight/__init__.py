"""What eyes see, measured as their rivals measure it: probes, zero-shot classification, MMVP-VLM."""
