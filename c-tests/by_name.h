/* For tests that load the library with dlopen(): its functions, looked up by name, as the_NAME. */
#ifndef BY_NAME_H
#define BY_NAME_H

#include "check.h"
#include <dlfcn.h>

#define DECLARE(name) static __typeof__(name) *the_##name;
#define FIND(name)                                                                                                     \
    do {                                                                                                               \
        void *found_ = dlsym(library, #name);                                                                          \
        CHECK(found_ != NULL);                                                                                         \
        memcpy(&the_##name, &found_, sizeof found_);                                                                   \
    } while (0)

#endif
