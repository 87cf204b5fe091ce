"""Star catalogues as archives, tables and detections give them."""
