"""The live monitor: `state` folds the journal's events into a view, the widgets draw it, `app` follows the journal."""
