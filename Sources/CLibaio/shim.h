// SPDX-License-Identifier: Apache-2.0
#include <libaio.h>
