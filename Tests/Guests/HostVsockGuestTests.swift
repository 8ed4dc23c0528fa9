// SPDX-License-Identifier: Apache-2.0
import Foundation
import Guests
import Targets
import Testing

/// The unit tests of this very build, in a guest whose kernel has AF_VSOCK sockets that reach each other.
///
/// Few machines that run tests have such a kernel, and none has to: the guest's own disk brings the tests
/// and the libraries that they load.
@Suite("A port map to the host's own AF_VSOCK", .serialized)
struct HostVsockGuestTests {
    /// The tests that have to pass there, one by one: none can be forgotten, or skipped.
    static let tests = [
        "is the kernel's where that has any that can connect, with this machine as its peer",
        "carries a MiB and a half each way at once, and every byte of it",
        "carries as much between a program that came by a listener and the guest's port",
        "keeps forty connections apart",
        "makes the guest wait for a program that does not read, and go on with it",
        "makes a program wait for a guest that does not read, and go on with it",
        "that nobody listens at is refused",
        "carries no messages: Linux would send parts of them again",
        "closed by half by the program tells the guest, which goes on sending",
        "closed by half by the guest shows the program the end, behind the last byte",
        "closed by the program tells the guest of both halves, after the last byte",
        "closed by the program half by half tells the guest of either, though it does not write",
        "closed by the program with bytes unread ends the wait of the guest's writer",
        "closed by the guest gives a late program every byte, and then the end",
        "closed by the guest in the middle of the program's writing makes that fail",
        "whose end lies behind a window that is full shows it to the guest all the same",
    ]

    @Test("keeps every promise of the unit tests on a kernel that has it")
    func realKernel() async throws {
        try await onOwnThread {
            let folder = try Workspace.makeRunFolder()
            defer { try? FileManager.default.removeItem(atPath: folder) }  // It lies in the cache.
            let disk = try DiskImage(path: folder + "/tests.img", mebibytes: 256)
            try Self.fill(disk, from: folder + "/tests")
            let daemon = try Daemon(
                diskMebibytes: 16, furtherUnits: ["target=1,path=\(disk.path),readonly"])
            let guest = try Guest(GuestSetup(.qemu, .split, requestQueueCount: 1), on: daemon)
            let report = try guest.run("/scenarios/host-vsock 1", within: .seconds(900))
            #expect(report.contains("the host's sockets are of the address family 40"))
            for test in Self.tests {
                #expect(report.contains("Test \"\(test)\" passed"), "\(report)")
            }
            #expect(report.contains("Test run with \(Self.tests.count) tests"))
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(10)) == .exited(0))
            try daemon.remove()
        }
    }

    /// Makes a file system with the program that is running now and the libraries that it loads.
    private static func fill(_ disk: DiskImage, from folder: String) throws {
        let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        // ext2 is enough for what is only read.
        let script = """
            strip -o "$2/tests" "$1"
            for library in $(ldd "$1" | grep -o '/[^ ]*'); do cp -L "$library" "$2/"; done
            mke2fs -q -F -t ext2 -d "$2" "$3"
            """
        try Program.run(["sh", "-ec", script, "sh", program, folder, disk.path])
    }
}
