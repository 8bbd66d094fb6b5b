"""What a publisher does so that an adapter tells less, and how sure of it an attacker can be."""
