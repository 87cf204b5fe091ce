"""From fits and saved trees to figures and to one page that shows everything."""
