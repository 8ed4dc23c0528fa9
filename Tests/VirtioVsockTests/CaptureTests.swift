// SPDX-License-Identifier: Apache-2.0

import Driver
import Glibc
import Testing

@testable import VirtioVsock

@Suite("A capture of packets")
struct CaptureTests {
    let path = "/tmp/vsock-capture-" + String(UInt64.random(in: .min ... .max), radix: 16)

    /// One record of the file.
    private struct Record {
        var monitorHeader: [UInt8]
        var packet: Packet
    }

    private func number(_ bytes: ArraySlice<UInt8>) -> Int {
        bytes.reversed().reduce(0) { $0 << 8 | Int($1) }
    }

    /// Takes the file apart once all is written, and removes it.
    private func read(_ guest: FakeGuest) throws -> [Record] {
        let capture = try #require(guest.device.multiplexer.capture)
        for _ in 0..<20_000 where capture.waitingByteCount > 0 { usleep(1000) }
        defer {
            // SAFETY: the path is passed as a C string for the length of the call.
            _ = unsafe unlink(path)
        }
        // SAFETY: the path is passed as a C string for the length of the call.
        let file = unsafe open(path, O_RDONLY)
        try #require(file >= 0)
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        // SAFETY: fills the array, no further than its end.
        let count = unsafe Glibc.read(file, &bytes, bytes.count)
        var rest = bytes[..<count]
        #expect(
            Array(rest.prefix(24)) == [
                0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 15, 1, 0, 0,
            ])
        rest = rest.dropFirst(24)
        var records: [Record] = []
        while rest.count >= 16 {
            let start = rest.startIndex
            let length = number(rest[start + 8..<start + 12])
            #expect(number(rest[start + 12..<start + 16]) == length)
            let record = rest.dropFirst(16).prefix(length)
            try #require(record.count == length)
            let packet = try #require(Packet(Array(record.dropFirst(32))))
            records.append(Record(monitorHeader: Array(record.prefix(32)), packet: packet))
            rest = rest.dropFirst(16 + length)
        }
        #expect(rest.isEmpty)
        return records
    }

    @Test("holds every packet of both directions, with its payload")
    func packets() throws {
        let path = path
        let guest = try FakeGuest(.init(adjust: { $0.capture = CaptureOptions(path: path) }))
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        stream.write(Array("hello".utf8))
        host.write("world")
        guest.settle()
        stream.close()
        guest.settle()
        let records = try read(guest)
        #expect(
            records.map(\.packet.operation).filter { $0 != Packet.creditUpdate } == [
                Packet.request, Packet.response, Packet.readWrite, Packet.readWrite,
                Packet.shutdown, Packet.reset,
            ])
        let payloads = records.map(\.packet.payload).filter { !$0.isEmpty }
        #expect(payloads == [Array("hello".utf8), Array("world".utf8)])
        // From 3:1025 to 2:5000, AF_VSK_OP_CONNECT, AF_VSK_TRANSPORT_VIRTIO, a header of 44 bytes.
        #expect(
            records[0].monitorHeader == [
                3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0x88, 0x13, 0, 0, 1, 0,
                2,
                0, 44, 0, 0, 0,
            ])
    }

    @Test("ends before the packet that would make it too long")
    func limit() throws {
        let path = path
        let guest = try FakeGuest(
            .init(adjust: { $0.capture = CaptureOptions(path: path, byteLimit: 24 + 2 * 92) }))
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        stream.write(Array("hello".utf8))
        guest.settle()
        #expect(host.readText() == "hello")
        #expect(try read(guest).map(\.packet.operation) == [Packet.request, Packet.response])
    }

    @Test("ends where the file takes no more, and the connections go on")
    func fullDevice() throws {
        let guest = try FakeGuest(
            .init(adjust: { $0.capture = CaptureOptions(path: "/dev/full") }))
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        for _ in 0..<40 {
            stream.write(testBytes(60_000))
            guest.settle()
            _ = host.read()
        }
        #expect(!stream.wasReset)
    }

    @Test("never holds up the device: what a slow file does not take is left out, and counted")
    func slowFile() throws {
        let path = path
        // SAFETY: the path is passed as a C string for the length of the calls.
        #expect(unsafe mkfifo(path, 0o600) == 0)
        let reader = unsafe open(path, O_RDWR | O_NONBLOCK)
        try #require(reader >= 0)
        let guest = try FakeGuest(
            .init(adjust: { $0.capture = CaptureOptions(path: path, byteLimit: 1 << 40) }))
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        // Nobody reads the pipe: its writer hangs. 12 MB pass, and up to 8 MiB are kept for the file.
        for _ in 0..<60 {
            stream.write(testBytes(200_000))
            guest.settle()
            guard case .bytes(let bytes) = host.read() else { break }
            expectSame(bytes, testBytes(200_000))
        }
        let capture = try #require(guest.device.multiplexer.capture)
        #expect(guest.device.statistics.bytesFromGuest == 12_000_000)
        #expect(guest.device.statistics.uncapturedPackets > 0)
        #expect(capture.waitingByteCount <= 8 << 20)
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        for _ in 0..<1_000_000 where capture.waitingByteCount > 0 {
            // SAFETY: fills the array, no further than its end.
            if unsafe Glibc.read(reader, &bytes, bytes.count) < 0 { usleep(100) }
        }
        #expect(capture.waitingByteCount == 0, "the rest is written as soon as the file takes it")
        close(reader)
        // SAFETY: as above.
        _ = unsafe unlink(path)
    }

    @Test("is refused where no file can be")
    func noFile() throws {
        #expect(throws: VsockError.self) {
            try FakeGuest(.init(adjust: { $0.capture = CaptureOptions(path: "/proc/none/x") }))
        }
    }
}
