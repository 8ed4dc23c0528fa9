// SPDX-License-Identifier: Apache-2.0
import Foundation
import Guests
import Targets

/// A file system with one of this machine's programs and the libraries that it loads, for a guest
/// whose own image does not hold it.
struct ToolDisk {
    let path: String
    private let program: String

    /// Makes the disk.
    init(_ program: String, in folder: String) throws {
        self.program = program
        path = folder + "/\(program).img"
        let content = folder + "/\(program)"
        try Program.run([
            "sh", "-ec",
            """
            mkdir -p \(content)
            program=$(command -v \(program))
            for file in $program $(ldd $program | grep -o '/[^ ]*'); do cp -L $file \(content)/; done
            mke2fs -q -F -t ext4 -d \(content) \(path) 256M
            """,
        ])
    }

    /// Mounts the disk in a guest.
    ///
    /// - Returns: the start of a command line that runs the program there.
    func mount(_ device: String, in guest: Guest) throws -> String {
        try guest.run("mkdir -p /mnt && mount -t ext4 -o ro \(device) /mnt")
        return "LD_LIBRARY_PATH=/mnt"
    }
}
