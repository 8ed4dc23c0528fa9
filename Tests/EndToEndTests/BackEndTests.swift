// SPDX-License-Identifier: Apache-2.0

import Foundation
import Guests
import LinuxIO
import Testing

@Suite("The program under the names of back-ends")
struct BackEndTests {
    /// Starts the program through a link of that name, beside a disk.
    private func start(
        _ name: String, _ arguments: [String], wrapper: [String] = []
    ) throws -> Program {
        try Program(arguments, named: name, wrapper: wrapper) {
            try Program.makeFile($0 + "/disk", byteCount: 16 << 20)
        }
    }

    /// Perl, which every Debian has, opens a socket as descriptor 3 and executes the program.
    private static func perl(_ opening: String) -> [String] {
        [
            "perl", "-MSocket", "-e",
            "$^F = 99; socket(S, AF_UNIX, SOCK_STREAM, 0) or die; \(opening) exec @ARGV or die;",
        ]
    }
    private static let listening = "bind(S, pack_sockaddr_un(shift)) and listen(S, 5) or die;"
    private static let connected = "connect(S, pack_sockaddr_un(shift)) or die;"

    @Test(
        "prints what it can do and ignores all else",
        arguments: [
            ("vhost-user-scsi", "{\"type\": \"scsi\", \"features\": []}"),
            ("vhost-user-vsock", "{\"type\": \"vsock\", \"features\": []}"),
        ])
    func capabilities(name: String, answer: String) throws {
        let program = try start(name, ["--fd", "99", "--nonsense", "--print-capabilities"])
        #expect(program.exitStatus() == .exited(0))
        #expect(program.lines == [answer])
    }

    @Test("listens at a path")
    func path() throws {
        let scsi = try start("vhost-user-scsi", ["--socket-path", "@/s", "--lun", "@/disk"])
        try scsi.waitUntilListening("s")
        scsi.terminate()
        #expect(scsi.exitStatus() == .exited(0))
        let vsock = try start(
            "vhost-user-vsock",
            ["--socket-path=@/v", "--guest-cid=3", "--vsock-path=@/h"])
        try vsock.waitUntilListening("v")
        vsock.terminate()
        #expect(vsock.exitStatus() == .exited(0))
    }

    @Test("wants to know where the front-end is, once")
    func nowhere() throws {
        for arguments in [[], ["--socket-path", "@/s", "--fd", "3"]] {
            let program = try start("vhost-user-scsi", arguments)
            #expect(program.exitStatus() == .exited(2))
            #expect(program.errors.contains("give --socket-path PATH, or --fd NUMBER"))
        }
    }

    @Test("takes a socket that listens")
    func passedListener() throws {
        let program = try start(
            "vhost-user-scsi", ["--fd", "3", "--lun", "@/disk"],
            wrapper: Self.perl(Self.listening) + ["@/s"])
        try program.waitUntilListening("s")
        let guest = try SCSIGuest(socketPath: program.folder + "/s")
        try guest.start()
        #expect(try guest.send([0, 0, 0, 0, 0, 0]) != nil)
    }

    @Test("takes a connection, and ends with it")
    func passedConnection() throws {
        let folder = try Workspace.makeRunFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }  // The next run has its own.
        let address = try #require(UnixAddress(path: folder + "/front"))
        let listener = try UnixListener(address)
        let program = try start(
            "vhost-user-scsi", ["--fd", "3", "--lun", "@/disk"],
            wrapper: Self.perl(Self.connected) + [folder + "/front"])
        var connection: OwnedDescriptor?
        for _ in 0..<20_000 where connection == nil {
            connection = try listener.accept()
            if connection == nil { usleep(5_000) }
        }
        guard let connection else { throw GuestError("nobody has connected") }
        // GET_FEATURES, and the header of its answer.
        _ = try UnixSocket.send([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], to: connection)
        var answer: [UInt8] = []
        for _ in 0..<20_000 where answer.count < 20 {
            let (result, bytes, _) = try UnixSocket.receive(from: connection, upTo: 20)
            if result == .wouldBlock { usleep(5_000) }
            answer += bytes
        }
        #expect(answer.prefix(12) == [1, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0])
        UnixSocket.shutDown(.both, of: connection)
        #expect(program.exitStatus() == .exited(0))
    }

    @Test("takes sockets from the service manager by their names, and is not told twice")
    func activation() throws {
        let environment =
            "$ENV{LISTEN_PID} = $$; $ENV{LISTEN_FDS} = 1; $ENV{LISTEN_FDNAMES} = 'scsi';"
        let program = try Program(
            [
                "run", "--scsi-socket", "@/elsewhere", "--vsock-socket", "@/v", "--guest-cid", "3",
                "--vsock-path", "@/h",
            ],
            wrapper: Self.perl(Self.listening + environment) + ["@/s"])
        try program.waitUntilListening("v")
        let guest = try SCSIGuest(socketPath: program.folder + "/s")
        try guest.start()
        #expect(!program.exists("elsewhere"))
        program.terminate()
        #expect(program.exitStatus() == .exited(0))
        // The socket is its maker's.
        #expect(program.exists("s"))
        #expect(!program.exists("v"))
    }

    @Test("refuses a descriptor that is no socket, with status 1")
    func noSocket() throws {
        let program = try start("vhost-user-scsi", ["--fd", "0"])
        #expect(program.exitStatus() == .exited(1))
        #expect(program.errors.contains("descriptor 0"), "\(program.errors)")
    }
}
