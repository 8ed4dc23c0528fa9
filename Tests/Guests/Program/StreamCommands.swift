// SPDX-License-Identifier: Apache-2.0
import Glibc

extension StreamAddress {
    /// `vsock:CID:PORT`, `unix:PATH` or `guest:PATH:PORT`; `vsock-messages:CID:PORT` for messages.
    init(parsing text: String) throws {
        let fields = text.split(separator: ":").map(String.init)
        switch (fields.first, fields.count) {
        case ("vsock", 3), ("vsock-messages", 3):
            guard let port = UInt32(fields[2]) else { throw UsageError() }
            let cid = fields[1] == "any" ? Self.anyCID : try number(fields[1])
            self =
                fields[0] == "vsock"
                ? .vsock(cid: cid, port: port) : .vsockMessages(cid: cid, port: port)
        case ("unix", 2): self = .unix(path: fields[1])
        case ("guest", 3): self = .guest(path: fields[1], port: try number(fields[2]))
        default: throw UsageError()
        }
    }
}

/// `exercise serve ADDRESS [COUNT]`: serves until COUNT connections have ended, without it until the
/// program is ended; says "serving" once it listens.
func runServer(_ arguments: [String]) throws {
    guard (1...2).contains(arguments.count) else { throw UsageError() }
    let count: Int = arguments.count == 2 ? try number(arguments[1]) : .max
    let server = try StreamServer(at: StreamAddress(parsing: arguments[0]))
    print("serving")
    fflush(nil)
    while server.statistics.finishedConnections < count { usleep(10_000) }
    if let failure = server.statistics.failures.first { throw ServingError(description: failure) }
}

/// A connection that was served ended wrongly.
struct ServingError: Error, CustomStringConvertible {
    let description: String
}

/// `exercise send|receive ADDRESS MIB SEED`.
func runTransfer(_ arguments: [String], sending: Bool) throws {
    guard arguments.count == 3 else { throw UsageError() }
    let byteCount: UInt64 = try number(arguments[1]) << 20
    let seed: UInt64 = try number(arguments[2])
    let exchange = StreamExchange(over: try StreamAddress(parsing: arguments[0]).connect())
    let summary =
        try sending
        ? exchange.send(byteCount: byteCount, seed: seed)
        : exchange.receive(byteCount: byteCount, seed: seed)
    print("\(sending ? "sent" : "received") \(summary)")
}

/// `exercise crowd ADDRESS CONNECTIONS KIB ROUNDS`.
func runCrowd(_ arguments: [String]) throws {
    guard arguments.count == 4 else { throw UsageError() }
    let crowd = StreamCrowd(
        address: try StreamAddress(parsing: arguments[0]), connectionCount: try number(arguments[1])
    )
    let returned = try crowd.exchange(
        blockByteCount: try number(arguments[2]) * 1024, rounds: try number(arguments[3]))
    print("echoed \(returned) over \(crowd.connectionCount) connections")
}

/// The number that `text` is, or a usage error.
func number<Number: FixedWidthInteger>(_ text: String) throws -> Number {
    guard let value = Number(text) else { throw UsageError() }
    return value
}
