-- ARGV: tenant. Whose it is stays known.
erase()
return 1
