"""The hardware tests, numbered in the order they must run; each leaves no fault behind (see conftest)."""
