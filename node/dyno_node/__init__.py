"""What runs on a node: starts, supervises, stops and finds processes, asks services. The standard library only."""
