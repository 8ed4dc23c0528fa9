// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import Testing

@Suite("A service that gives up rights")
struct RightsTests {
    @Test("makes no folder any more where the kernel has Landlock, and knows where it has not")
    func landlock() async {
        await #expect(processExitsWith: .success) {
            // A name that no earlier process of our number has left behind.
            let folder = "/tmp/vhostd-rights.\(getpid()).\(UInt64.random(in: 0...UInt64.max))"
            let hasLandlock = try ProcessEnvironment.giveUpRights()
            // SAFETY: the path is a string that lives through each call.
            let isDenied = unsafe mkdir(folder, 0o700) == -1 && errno == EACCES
            if !isDenied { _ = unsafe rmdir(folder) }
            exit(isDenied == hasLandlock ? 0 : 1)
        }
    }
}
