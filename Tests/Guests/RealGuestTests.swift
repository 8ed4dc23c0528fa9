// SPDX-License-Identifier: Apache-2.0
import Guests
import Testing

/// The matrix of machines, ring formats and request queues over both devices.
///
/// The tests stand in the order in which one guest lives through them. user-mode-linux has one
/// processor and so never uses a second request queue.
@Suite("A real guest", .serialized)
struct RealGuestTests {
    static let setups = GuestSetup.wanted([
        GuestSetup(.uml, .split, requestQueueCount: 1),
        GuestSetup(.uml, .packed, requestQueueCount: 1),
        GuestSetup(.qemu, .split, requestQueueCount: 1),
        GuestSetup(.qemu, .packed, requestQueueCount: 1),
        GuestSetup(.qemu, .split, requestQueueCount: 4),
        GuestSetup(.qemu, .packed, requestQueueCount: 4, requestThreadCount: 4),
    ])

    @Test("drives both devices over the ring format that was asked for", arguments: setups)
    func negotiatesRingFormat(setup: GuestSetup) async throws {
        try await onOwnThread {
            let served = try GuestFarm.shared.guest(setup)
            let rings = try served.guest.run("/scenarios/rings")
            let ring = setup.ring.rawValue
            #expect(rings == "virtio_scsi \(ring)\nvmw_vsock_virtio_transport \(ring)")
            let queues = try served.guest.run("ls /sys/block/sda/mq | wc -l")
            #expect(queues == "\(setup.requestQueueCount)")
        }
    }

    @Test("formats and mounts a disk, finds its tree again and trims", arguments: setups)
    func usesDisk(setup: GuestSetup) async throws {
        try await onOwnThread {
            let served = try GuestFarm.shared.guest(setup)
            let report = try served.guest.run("/scenarios/disk /dev/sda")
            #expect(report.hasSuffix("disk scenario passed"))
            try served.daemon.disk.checkFileSystem()
            let allocated = try served.daemon.disk.allocatedByteCount()
            #expect(allocated > 8 << 20 && allocated < 64 << 20, "\(allocated) bytes allocated")
        }
    }

    @Test("reads at random what it wrote at random", arguments: setups)
    func readsWhatItWrote(setup: GuestSetup) async throws {
        try await onOwnThread {
            let served = try GuestFarm.shared.guest(setup)
            let report = try served.guest.run("exercise disk /dev/sda 64 4000 8 20240229")
            #expect(report == "disk ok: 4000 transfers by 8 threads over 64 MiB")
        }
    }

    @Test("sends and receives 64 MiB on connections that it opened", arguments: setups)
    func streamsToHost(setup: GuestSetup) async throws {
        try await onOwnThread {
            let served = try GuestFarm.shared.guest(setup)
            let server = try StreamServer(at: .unix(path: served.daemon.hostPath + "_5001"))
            defer { server.stop() }
            let sent = try served.guest.run("exercise send vsock:2:5001 64 1")
            let received = try served.guest.run("exercise receive vsock:2:5001 64 1")
            #expect(sent.split(separator: " ")[1...] == received.split(separator: " ")[1...])
            #expect(sent.hasPrefix("sent 67108864 "))
            #expect(server.statistics.failures == [])
        }
    }

    @Test("sends and receives 64 MiB on connections that the host opened", arguments: setups)
    func streamsFromHost(setup: GuestSetup) async throws {
        try await onOwnThread {
            let served = try GuestFarm.shared.guest(setup)
            try served.guest.start("exercise serve vsock:any:5002").waitForLine("serving")
            let guestPort = StreamAddress.guest(path: served.daemon.hostPath, port: 5002)
            let received = try StreamExchange(over: guestPort.connect())
                .receive(byteCount: 64 << 20, seed: 2)
            let sent = try StreamExchange(over: guestPort.connect())
                .send(byteCount: 64 << 20, seed: 2)
            #expect(sent == received)
            #expect(sent.byteCount == 67_108_864)
        }
    }

    @Test("exchanges messages of 64 KiB, whoever opens the connection", arguments: setups)
    func messages(setup: GuestSetup) async throws {
        try await onOwnThread {
            let served = try GuestFarm.shared.guest(setup)
            let path = served.daemon.hostPath
            let server = try StreamServer(at: .unixMessages(path: path + "_5006"))
            defer { server.stop() }
            let sent = try served.guest.run("exercise send vsock-messages:2:5006 8 6")
            let received = try served.guest.run("exercise receive vsock-messages:2:5006 8 6")
            #expect(sent.hasPrefix("sent 8388608 "))
            #expect(sent.split(separator: " ")[1...] == received.split(separator: " ")[1...])
            #expect(server.statistics.failures == [])

            try served.guest.start("exercise serve vsock-messages:any:5007").waitForLine("serving")
            let guestPort = StreamAddress.guestMessages(path: path + "_seqpacket", port: 5007)
            let returned = try StreamExchange(over: guestPort.connect())
                .receive(byteCount: 8 << 20, seed: 7)
            #expect(returned.byteCount == 8_388_608)
        }
    }

    @Test("holds a hundred connections at once, either way", arguments: setups)
    func holdsManyConnections(setup: GuestSetup) async throws {
        try await onOwnThread {
            let served = try GuestFarm.shared.guest(setup)
            let server = try StreamServer(at: .unix(path: served.daemon.hostPath + "_5003"))
            defer { server.stop() }
            let report = try served.guest.run("exercise crowd vsock:2:5003 100 16 4")
            #expect(report == "echoed 6553600 over 100 connections")
            #expect(server.statistics.mostOpenConnections == 100)
            #expect(server.statistics.failures == [])

            try served.guest.start("exercise serve vsock:any:5004").waitForLine("serving")
            let crowd = StreamCrowd(
                address: .guest(path: served.daemon.hostPath, port: 5004), connectionCount: 100)
            #expect(try crowd.exchange(blockByteCount: 16 << 10, rounds: 4) == 6_553_600)
        }
    }

    @Test("finds its disk and its host again after a reboot", arguments: setups)
    func survivesReboot(setup: GuestSetup) async throws {
        try await onOwnThread {
            let served = try GuestFarm.shared.guest(setup)
            try served.guest.reboot()
            try Self.checkBothDevices(of: served)
        }
    }

    @Test(
        "is served in another machine on the same daemon, which then ends within a second",
        arguments: setups)
    func survivesRestart(setup: GuestSetup) async throws {
        try await onOwnThread {
            let first = try GuestFarm.shared.guest(setup)
            try first.guest.powerOff()
            let second = try GuestFarm.shared.replaceGuest(of: first)
            try Self.checkBothDevices(of: second)
            try second.guest.powerOff()
            let idle = try second.daemon.footprint(
                settledTo: second.idleFootprint, within: .seconds(300))
            #expect(idle.holdsAsMuch(as: second.idleFootprint), "\(idle)")
            #expect(second.daemon.terminate(within: .seconds(1)) == .exited(0))
            try second.daemon.remove()
        }
    }

    /// A short disk run and a short stream each way.
    static func checkBothDevices(of served: ServedGuest) throws {
        let server = try StreamServer(at: .unix(path: served.daemon.hostPath + "_5005"))
        defer { server.stop() }
        try served.guest.run("until [ -b /dev/sda ]; do usleep 50000; done")
        try served.guest.run("exercise disk /dev/sda 16 400 4 3")
        try served.guest.run("exercise send vsock:2:5005 1 3")
        try served.guest.run("exercise receive vsock:2:5005 1 3")
        #expect(server.statistics.failures == [])
    }
}
