# Cache::Memcached or Cache::Memcached::Fast (argv[2]) against argv[0]:argv[1].
use strict;
use warnings;

my ($host, $port, $class) = @ARGV;
eval "require $class; 1" or die $@;
my $c = $class->new({ servers => ["$host:$port"], connect_timeout => 30, io_timeout => 30 });
my $fast = $class =~ /Fast/;

sub want {
    my ($what, $got, $expected) = @_;
    $got = 'undef' unless defined $got;
    return if $got eq $expected;
    die "$what: got " . substr($got, 0, 200) . ", want " . substr($expected, 0, 200) . "\n";
}

my $binary = join('', map { chr } 0 .. 255) . "\r\nEND\r\n";
my $large = '0123456789' x 100_000;

want('flush', $c->flush_all ? 1 : 0, 1);
want('get of nothing', scalar($c->get('none')), 'undef');
want('set', $c->set('k', 'value'), 1);
want('get', scalar($c->get('k')), 'value');
want('set binary', $c->set('bin', $binary), 1);
want('get binary', scalar($c->get('bin')), $binary);
want('set large', $c->set('large', $large), 1);
want('get large', scalar($c->get('large')), $large);

want("set $_", $c->set("many$_", $_), 1) for 1 .. 100;
my $got = $c->get_multi(map { "many$_" } 1 .. 110);
want('get_multi', join(',', map { $got->{"many$_"} // '-' } 1 .. 110), join(',', 1 .. 100, ('-') x 10));

want('add', $c->add('k', 'x') ? 1 : 0, 0);
want('add new', $c->add('new', 'y') ? 1 : 0, 1);
want('replace', $c->replace('new', 'r') ? 1 : 0, 1);
want('replace nothing', $c->replace('none', 'r') ? 1 : 0, 0);

want('set number', $c->set('n', 10), 1);
want('incr', $c->incr('n', 5), 15);
want('decr', $c->decr('n', 20) + 0, 0);

if ($fast) {
    want('append', $c->append('new', 'z') ? 1 : 0, 1);
    want('prepend', $c->prepend('new', 'x') ? 1 : 0, 1);
    my $pair = $c->gets('new');
    want('gets', $pair->[1], 'xrz');
    want('cas', $c->cas('new', $pair->[0], 'mine') ? 1 : 0, 1);
    want('late cas', $c->cas('new', $pair->[0], 'late') ? 1 : 0, 0);
    want('get', scalar($c->get('new')), 'mine');
    want('touch', $c->touch('k', 1000) ? 1 : 0, 1);
    want('touch nothing', $c->touch('none', 1000) ? 1 : 0, 0);
}

want('delete', $c->delete('k') ? 1 : 0, 1);
want('get deleted', scalar($c->get('k')), 'undef');

want('set short', $c->set('short', 'x', 1), 1);
my $deadline = time + 30;
while (defined scalar($c->get('short'))) {
    die "a value for one second is still there\n" if time > $deadline;
    select undef, undef, undef, 0.05;
}
print "ok\n";
