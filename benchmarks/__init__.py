"""What makes each published number again; the numbers themselves are in README.md beside this."""
