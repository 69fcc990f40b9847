# Builds, installs and uninstalls the C library: libzsalloc.so, libzsalloc.a, zsalloc.h and zsalloc.pc. Needs GNU make,
# cargo, a C compiler and GNU binutils. docs/installing.md says what each variable is for. `make install` calls neither cargo nor
# the compiler if `make` with the same variables has built everything.

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
PKGCONFIGDIR ?= $(LIBDIR)/pkgconfig
DESTDIR ?=

# 1: link with the system's liblz4 and libzstd instead of compiling the codecs into the library.
SYSTEM_CODECS ?= 0
# What becomes of debug information: `split` writes it to a file beside the shared library and strips both libraries,
# `inside` leaves it in both, `none` leaves it out.
DEBUG_INFO ?= split
# A Rust target, to build for another machine; CC, LD, AR and OBJCOPY have to be that machine's.
TARGET ?= $(CARGO_BUILD_TARGET)
# Where debuggers look for the sources. The paths of the machine that builds are replaced by these.
SOURCE_PATH ?= /usr/src/debug/zsalloc-$(VERSION)

CARGO ?= cargo
RUSTC ?= rustc
CARGO_FLAGS ?= --locked
OBJCOPY ?= objcopy
INSTALL ?= install
LDCONFIG ?= ldconfig

# 0.1.0 of Cargo.toml and libzsalloc.so.0 of build.rs make libzsalloc.so.0.1.0.
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml)
SONAME := $(shell sed -n 's/^const SONAME: .* = "\(.*\)";$$/\1/p' build.rs)
SHARED := $(SONAME).$(shell echo '$(VERSION)' | cut -d. -f2-)
VERSION_SCRIPT := c-library/libzsalloc.map

ifeq ($(SYSTEM_CODECS),1)
CODECS := system
CODEC_LIBS := -llz4 -lzstd
CODEC_PACKAGES := liblz4 libzstd
else ifeq ($(SYSTEM_CODECS),0)
CODECS := bundled
CODEC_LIBS :=
CODEC_PACKAGES :=
else
$(error SYSTEM_CODECS is $(SYSTEM_CODECS): it can be 0 or 1)
endif
ifeq ($(filter split inside none,$(DEBUG_INFO)),)
$(error DEBUG_INFO is $(DEBUG_INFO): it can be split, inside or none)
endif

BUILD := target/c/$(CODECS)$(TARGET:%=-%)
OUT := $(BUILD)/$(DEBUG_INFO)
SOURCES := $(shell find src c-library -type f) build.rs Cargo.toml Cargo.lock Makefile
DEBUG_FILE := $(if $(filter split,$(DEBUG_INFO)),$(SHARED).debug)

.PHONY: all install uninstall check clean
.DELETE_ON_ERROR:

all: $(OUT)/libzsalloc.so $(OUT)/libzsalloc.a $(BUILD)/libs

# Calls cargo. Its list of flags is separated by the character 0x1f, so that paths may have spaces. The flags replace the
# paths of the checkout, of cargo's packages and of the Rust toolchain in messages and debug information. The flag
# -fno-lto comes after the CFLAGS of packagers, because the objects of the C codecs have to be machine code, and
# ZSTD_TRACE=0 leaves out calls of functions that a program may define. With the system's codecs, the build scripts of
# the packages that compile them are replaced.
$(BUILD)/archive.a: $(SOURCES)
	@command -v '$(CARGO)' >/dev/null || { \
	  echo 'cargo is not found, and the library is not built with these options: run make as a user who has it' >&2; \
	  exit 1; }
	@mkdir -p $(BUILD)
	@[ -e $(BUILD)/native-libs ] || '$(CARGO)' clean --quiet --release --package zsalloc-c --target-dir $(BUILD)
	target='$(TARGET)' && target="$${target:-$$('$(RUSTC)' -vV | sed -n 's/^host: //p')}" && \
	toolchain="$$('$(RUSTC)' --print sysroot)" && cargo_home="$${CARGO_HOME:-$$HOME/.cargo}" && \
	flags="$$(printf %s "$$RUSTFLAGS" | tr -s ' ' '\037')" && c_flags='$(CFLAGS) -fno-lto -DZSTD_TRACE=0' && \
	for map in "$$toolchain/lib/rustlib=/rustc/lib/rustlib" "$$cargo_home=$(SOURCE_PATH)/cargo" '$(CURDIR)=$(SOURCE_PATH)'; do \
	  flags="$$flags$${flags:+$$(printf '\037')}--remap-path-prefix=$$map"; \
	  c_flags="$$c_flags '-ffile-prefix-map=$$map'"; \
	done && \
	for codec in $(patsubst -l%,%,$(CODEC_LIBS)); do \
	  set -- "$$@" --config "target.$$target.$$codec.rustc-link-lib=['$$codec']"; \
	done && \
	CARGO_ENCODED_RUSTFLAGS="$$flags" CC_SHELL_ESCAPED_FLAGS=1 CFLAGS="$$c_flags" CC='$(CC)' AR='$(AR)' MAKEFLAGS= \
	'$(CARGO)' rustc $(CARGO_FLAGS) --release --package zsalloc-c --lib --crate-type staticlib --target-dir $(BUILD) \
	  --target "$$target" "$$@" -- --print 'native-static-libs=$(CURDIR)/$(BUILD)/native-libs' && \
	cp "$(BUILD)/$$target/release/libzsalloc.a" $@

# What programs that link with the static library need, too: the compiler's list, without what each C compiler adds in
# the form that suits the program, and without what the pkg-config file requires as packages.
$(BUILD)/libs: $(BUILD)/archive.a
	tr ' ' '\n' <$(BUILD)/native-libs | grep -vxE -e '-l(gcc_s|c|lz4|zstd)' | paste -sd ' ' >$@

# The functions that the version script names.
$(BUILD)/functions: $(VERSION_SCRIPT)
	@mkdir -p $(BUILD)
	sed -n 's/^ *\(zs[a-z0-9_]*\);$$/\1/p' $< >$@

# One object, in which only these functions are global: other copies of the codecs and of Rust's standard library do not
# clash with those inside. Sections that the functions do not need are left out. Groups of sections are dissolved: the
# linker would take one for the group of the same name in another library, and leave it out.
$(BUILD)/zsalloc.o: $(BUILD)/functions $(BUILD)/archive.a
	$(LD) -r --gc-sections --force-group-allocation $$(sed 's/^/--undefined=/' $<) $(BUILD)/archive.a -o $@
	$(OBJCOPY) --keep-global-symbols=$< -R .llvmbc -R .llvmcmd $@

$(BUILD)/libzsalloc.so: $(BUILD)/zsalloc.o $(BUILD)/libs $(VERSION_SCRIPT)
	$(CC) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=$(VERSION_SCRIPT) -Wl,--gc-sections -Wl,--build-id \
	  -Wl,-z,relro,-z,now,-z,defs $(LDFLAGS) $< -Wl,--as-needed $(CODEC_LIBS) $$(cat $(BUILD)/libs) -o $@

$(BUILD)/split/libzsalloc.so: $(BUILD)/libzsalloc.so
	@mkdir -p $(@D)
	$(OBJCOPY) --only-keep-debug --compress-debug-sections $< $(@D)/$(SHARED).debug
	$(OBJCOPY) --strip-unneeded --add-gnu-debuglink=$(@D)/$(SHARED).debug $< $@

$(BUILD)/none/libzsalloc.so: $(BUILD)/libzsalloc.so
	@mkdir -p $(@D)
	$(OBJCOPY) --strip-unneeded $< $@

$(BUILD)/split/libzsalloc.a $(BUILD)/none/libzsalloc.a: $(BUILD)/zsalloc.o
	@mkdir -p $(@D) && rm -f $@
	$(OBJCOPY) --strip-debug $< $(@D)/zsalloc.o
	$(AR) rcsD $@ $(@D)/zsalloc.o

$(BUILD)/inside/libzsalloc.so: $(BUILD)/libzsalloc.so
	@mkdir -p $(@D)
	cp $< $@

$(BUILD)/inside/libzsalloc.a: $(BUILD)/zsalloc.o
	@mkdir -p $(@D) && rm -f $@
	$(AR) rcsD $@ $<

# Debuggers look in .debug beside the library. The pkg-config file has paths below the prefix relative to it, so that
# pkg-config can move them with the prefix, and names the directories that were not there before, for `make uninstall`.
install: all
	@for path in '$(PREFIX)' '$(LIBDIR)' '$(INCLUDEDIR)' '$(PKGCONFIGDIR)'; do case "$$path" in ''|/*) ;; \
	  *) echo "$$path does not begin with /: give absolute paths" >&2; exit 1;; esac; done
	@set -e; umask 022; pc='$(DESTDIR)$(PKGCONFIGDIR)/zsalloc.pc'; \
	made="$$([ -n '$(DESTDIR)' ] || sed -n '/^# made: /p' "$$pc" 2>/dev/null || :)"; \
	for path in '$(LIBDIR)' '$(INCLUDEDIR)' '$(PKGCONFIGDIR)' $(if $(DEBUG_FILE),'$(LIBDIR)/.debug'); do \
	  missing= && above="$(DESTDIR)$$path" && \
	  until [ -d "$$above" ]; do missing="$$(printf '# made: %s\n%s' "$$above" "$$missing")"; above="$$(dirname "$$above")"; done; \
	  [ -n '$(DESTDIR)' ] || made="$$(printf '%s\n%s' "$$made" "$$missing")"; \
	  $(INSTALL) -d "$(DESTDIR)$$path"; \
	done; \
	rm -f "$$pc" && { sed -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	  -e 's|=$(PREFIX)/|=$${prefix}/|' -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' \
	  -e 's|@CODECS@|$(CODEC_PACKAGES)|' -e "s|@LIBS@|$$(cat $(BUILD)/libs)|" c-library/zsalloc.pc.in; \
	  printf '%s\n' "$$made" | sed '/^$$/d'; } >"$$pc"
	$(INSTALL) -m 644 include/zsalloc.h '$(DESTDIR)$(INCLUDEDIR)'
	$(INSTALL) -m 644 $(OUT)/libzsalloc.a '$(DESTDIR)$(LIBDIR)'
	$(INSTALL) -m 755 $(OUT)/libzsalloc.so '$(DESTDIR)$(LIBDIR)/$(SHARED)'
	ln -sf $(SHARED) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libzsalloc.so'
	$(if $(DEBUG_FILE),$(INSTALL) -m 644 $(OUT)/$(DEBUG_FILE) '$(DESTDIR)$(LIBDIR)/.debug/$(DEBUG_FILE)')
	@$(update_linker)

# The dynamic linker's cache, which only root can write. Packagers' tools do this for staged files.
update_linker = [ -n '$(DESTDIR)' ] || [ "$$(id -u)" != 0 ] || PATH="$$PATH:/usr/sbin:/sbin" $(LDCONFIG)

uninstall:
	@made="$$(sed -n 's/^# made: //p' '$(DESTDIR)$(PKGCONFIGDIR)/zsalloc.pc' 2>/dev/null | sort -r)"; \
	rm -f '$(DESTDIR)$(INCLUDEDIR)/zsalloc.h' '$(DESTDIR)$(PKGCONFIGDIR)/zsalloc.pc' \
	  '$(DESTDIR)$(LIBDIR)/libzsalloc.a' '$(DESTDIR)$(LIBDIR)/libzsalloc.so' '$(DESTDIR)$(LIBDIR)/$(SONAME)' \
	  '$(DESTDIR)$(LIBDIR)/$(SHARED)' '$(DESTDIR)$(LIBDIR)/.debug/$(SHARED).debug' && \
	for path in $(if $(DESTDIR),'$(LIBDIR)/.debug' '$(PKGCONFIGDIR)' '$(LIBDIR)' '$(INCLUDEDIR)'); do \
	  until [ "$$path" = / ] || ! rmdir "$(DESTDIR)$$path" 2>/dev/null; do path="$$(dirname "$$path")"; done; \
	done; \
	printf '%s\n' "$$made" | while IFS= read -r path; do rmdir "$$path" 2>/dev/null || :; done
	@$(update_linker)

check:
	'$(CARGO)' test $(CARGO_FLAGS) --features uffd

clean:
	rm -rf target/c
