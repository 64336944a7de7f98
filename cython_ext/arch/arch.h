/* arch/arch.h: picks the processor. */
#ifndef PMKV_ARCH_H
#define PMKV_ARCH_H

#if defined(__x86_64__)
#include "x86_64.h"
#elif defined(__aarch64__)
#include "aarch64.h"
#else
#include "generic.h"
#endif

#ifndef PMKV_STREAM_NEEDS_FLUSH
#define PMKV_STREAM_NEEDS_FLUSH 0
#endif

#endif
