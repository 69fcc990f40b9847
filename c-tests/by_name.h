/* What tests share that load the library by dlopen(): its functions by their names, as the_NAME. */
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
