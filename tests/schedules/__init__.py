"""How soon an end is known, and what that costs in inquiries: our schedule beside others."""
