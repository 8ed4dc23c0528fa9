// SPDX-License-Identifier: Apache-2.0
//
// libiscsi's own declarations; CLibiscsi.c stands in for the library.
#ifndef CLIBISCSI_H
#define CLIBISCSI_H

#include <stddef.h>
#include <stdint.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

/// Loads libiscsi, once. To be called before anything else of it; any thread may.
/// Returns 0, or -1 when the library is not there or lacks a function.
int cl_iscsi_load(void);

#endif
