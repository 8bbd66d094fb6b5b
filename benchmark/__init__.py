"""The harness: suites, graph, store, scheduler, tracking, screens. No science."""
