// SPDX-License-Identifier: Apache-2.0

import Foundation
import Guests
import LinuxIO
import Testing

@Suite("A start that cannot succeed")
struct MistakeTests {
    private static let vsock = ["--vsock-socket", "@/v", "--guest-cid", "3", "--vsock-path", "@/h"]

    @Test(
        "is ended with status 2 and a sentence about the command line",
        arguments: [
            ([], "nothing to serve: give --scsi-socket, or --vsock-socket, or both"),
            (["--lun", "disk"], "--lun needs --scsi-socket beside it"),
            (["--vsock-socket", "@/v"], "--vsock-socket needs --guest-cid beside it"),
            (["--guest-cid", "3"], "--guest-cid needs --vsock-socket beside it"),
            (["--vsock-path", "@/h"], "--vsock-path needs --vsock-socket beside it"),
            (
                ["--vsock-socket", "@/v", "--vsock-path", "@/h", "--guest-cid", "2"],
                "--guest-cid 2: a guest's CID is a number from 3 to 4294967294"
            ),
            (["--guest-cid", "many"], "The value 'many' is invalid for '--guest-cid"),
            (["--log-level", "loud"], "The value 'loud' is invalid for '--log-level"),
            (["--scsi-socket", "@/s", "--lun", "lnu=1,path=d"], "unknown key 'lnu'; known are"),
            (["--scsi-socket", "@/s", "--disable-feature", "x"], "known are packed, event-idx"),
            (["--scsi-sokcet", "@/s"], "Unknown option '--scsi-sokcet'"),
            (
                ["--scsi-socket", "a", "--lun", "x", "--lun", "y", "--scsi-socket=b"],
                "--scsi-socket is given twice: a, and b"
            ),
            (["--guest-cid", "3", "--guest-cid", "3"], "--guest-cid is given twice: 3, and 3"),
            (
                ["--config", "a.toml", "--config=b.toml"],
                "--config is given twice: a.toml, and b.toml"
            ),
        ] as [([String], String)])
    func wrongCommandLine(arguments: [String], message: String) throws {
        let program = try Program(["run"] + arguments)
        #expect(program.exitStatus() == .exited(2))
        #expect(program.errors.contains(message), "\(program.errors)")
    }

    @Test("refuses a socket path of more than 107 bytes")
    func longPath() throws {
        let path = "/" + String(repeating: "x", count: 107)
        let program = try Program(["run", "--scsi-socket", path])
        #expect(program.exitStatus() == .exited(2))
        #expect(program.errors.contains("108 bytes; a Unix socket's path has 1 to 107"))
    }

    @Test(
        "is ended with status 2 and file, line and key of what is wrong there",
        arguments: ["run --config", "check"])
    func wrongConfigurationFile(command: String) throws {
        let arguments = command.split(separator: " ").map(String.init) + ["@/vm1.toml"]
        let program = try Program(arguments) {
            try Program.writeFile($0 + "/vm1.toml", "[scsi]\nsocket = 5\n")
        }
        #expect(program.exitStatus() == .exited(2))
        let message = "vm1.toml:2: scsi.socket: a whole number stands where a string is wanted\n"
        #expect(program.errors.hasPrefix("vhostd: "), "\(program.errors)")
        #expect(program.errors.hasSuffix(message), "\(program.errors)")
    }

    @Test(
        "is ended with status 1 and a sentence about the file",
        arguments: [
            ("@/absent", "absent"),
            ("@/.", "directory"),
            ("@/odd", "512"),
            ("path=@/even,block-size=4096", "4096"),
            ("@/empty", "empty"),
        ])
    func wrongFile(specification: String, message: String) throws {
        let program = try Program(["run", "--scsi-socket", "@/s", "--lun", specification]) {
            try Program.makeFile($0 + "/odd", byteCount: 1_048_577)
            try Program.makeFile($0 + "/even", byteCount: 1_048_576 + 512)
            try Program.makeFile($0 + "/empty", byteCount: 0)
        }
        #expect(program.exitStatus() == .exited(1))
        #expect(program.errors.hasPrefix("vhostd: --lun: "), "\(program.errors)")
        #expect(program.errors.contains(message), "\(program.errors)")
        #expect(!program.exists("s"))
    }

    @Test("leaves nothing behind when the second device cannot start")
    func secondDeviceFails() throws {
        let arguments = ["run", "--scsi-socket", "@/s"] + Self.vsock
        let program = try Program(arguments) { try Program.makeFile($0 + "/v", byteCount: 1) }
        #expect(program.exitStatus() == .exited(1))
        #expect(program.errors.contains("exists and is not a socket"), "\(program.errors)")
        #expect(program.errors.hasPrefix("vhostd: --vsock-socket: "), "\(program.errors)")
        #expect(!program.exists("s"))
        #expect(!program.exists("h"))
        #expect(program.exists("v"))
    }

    @Test(
        "is ended with the flag whose folder is not there",
        arguments: [
            (["--control-socket", "/nonexistent/c"], "--control-socket: "),
            (["--vsock-listen", "22=/nonexistent/x"], "--vsock-listen: "),
            (["--capture", "/nonexistent/x"], "--capture: "),
            (
                ["--vsock-siblings", "/nonexistent"],
                "--vsock-siblings: /nonexistent: no such directory"
            ),
        ] as [([String], String)])
    func absentFolder(arguments: [String], message: String) throws {
        let program = try Program(["run"] + Self.vsock + arguments)
        #expect(program.exitStatus() == .exited(1))
        #expect(program.errors.hasPrefix("vhostd: " + message), "\(program.errors)")
        #expect(!program.exists("v"))
    }

    /// 1 MiB that nobody may touch.
    @Test(
        "leaves a file alone that is named as one to write by mistake",
        arguments: ["--capture", "--metrics-textfile"])
    func fileOfAnotherKind(flag: String) throws {
        let program = try Program(["run"] + Self.vsock + [flag, "@/disk"]) {
            try Program.makeFile($0 + "/disk", byteCount: 1 << 20)
        }
        #expect(program.exitStatus() == .exited(1))
        #expect(program.errors.hasPrefix("vhostd: \(flag): "), "\(program.errors)")
        #expect(program.errors.contains("name another file, or remove it"), "\(program.errors)")
        let attributes = try FileManager.default.attributesOfItem(atPath: program.folder + "/disk")
        #expect(attributes[.size] as? Int == 1 << 20)
        #expect(!program.exists("v"))
    }

    /// To open it would take until somebody writes to it.
    @Test("does not wait for a pipe that is named as the file of figures")
    func pipe() throws {
        let program = try Program(["run"] + Self.vsock + ["--metrics-textfile", "@/pipe"]) {
            // SAFETY: the path is passed as a C string for the length of the call.
            try #require(unsafe mkfifo($0 + "/pipe", 0o600) == 0)
        }
        #expect(program.exitStatus() == .exited(1))
        #expect(program.errors.hasPrefix("vhostd: --metrics-textfile: "), "\(program.errors)")
    }

    @Test(
        "is not needed for an image of another format, which is served byte by byte with a warning")
    func image() throws {
        let program = try Program(["run", "--scsi-socket", "@/s", "--lun", "@/disk"]) {
            var bytes = [UInt8](repeating: 0, count: 1 << 20)
            bytes.replaceSubrange(0..<4, with: [0x51, 0x46, 0x49, 0xFB])
            try Data(bytes).write(to: URL(fileURLWithPath: $0 + "/disk"))
        }
        try program.waitUntilListening("s")
        #expect(program.errors.contains("image of another format"), "\(program.errors)")
        #expect(program.errors.contains("qcow2"), "\(program.errors)")
    }

    @Test("does not take a socket that another process listens at")
    func socketInUse() throws {
        let first = try Program(["run", "--scsi-socket", "@/s"])
        try first.waitUntilListening("s")
        let second = try Program(["run", "--scsi-socket", first.folder + "/s"])
        #expect(second.exitStatus() == .exited(1))
        #expect(second.errors.contains("another process listens there"), "\(second.errors)")
        #expect(first.canConnect("s"))
    }

    @Test("does not serve one file for writing twice")
    func fileInUse() throws {
        let first = try Program(["run", "--scsi-socket", "@/s", "--lun", "@/disk"]) {
            try Program.makeFile($0 + "/disk", byteCount: 1_048_576)
        }
        try first.waitUntilListening("s")
        let second = try Program(["run", "--scsi-socket", "@/s", "--lun", first.folder + "/disk"])
        #expect(second.exitStatus() == .exited(1))
        #expect(second.errors.contains("in use by another process"), "\(second.errors)")
    }
}
