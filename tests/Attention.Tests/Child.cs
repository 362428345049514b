namespace Attention.Tests;

internal static class Child
{
    public static int Run(string scenario, string[] arguments) => throw new ArgumentException(scenario + arguments.Length);
}
