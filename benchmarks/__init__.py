"""One file per question; speed lives here, never in tests."""
