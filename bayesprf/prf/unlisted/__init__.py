"""Stars that the image shows and the catalogue lacks."""
