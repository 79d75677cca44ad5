"""The core: bytes, files and checksums; it decides nothing about tiers."""
