// SPDX-License-Identifier: Apache-2.0
import Foundation
import Guests
import Targets

/// The guest's own programs as a file system.
enum RootFileSystem {
    /// Makes a file system of a disk, from what the guest's initramfs holds.
    static func write(to disk: String) throws {
        let folder = try Workspace.makeRunFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }  // It lies in the cache.
        let image = try Workspace.image("uml.cpio")
        try Program.run(["sh", "-c", "cd \(folder) && cpio -id --quiet <\(image)"])
        try Program.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, disk])
    }
}
