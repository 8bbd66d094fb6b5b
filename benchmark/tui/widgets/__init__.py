"""What the screens are made of: each widget draws a part of the view."""
