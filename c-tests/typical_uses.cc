// The typical uses in C++.
#include "typical_uses.c"
